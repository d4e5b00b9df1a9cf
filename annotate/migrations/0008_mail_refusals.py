"""How often the mail server refused an email for good, apart from how often it was tried."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0007_review_state'),
    ]

    operations = [
        migrations.AddField(
            model_name='notice',
            name='mail_refusals',
            field=models.PositiveSmallIntegerField(default=0),
        ),
    ]
