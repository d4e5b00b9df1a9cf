import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0002_drafts_of_corrections'),
    ]

    operations = [
        migrations.AddField(
            model_name='member',
            name='wants_mail',
            field=models.BooleanField(default=False, help_text='Notices come by mail, too.'),
        ),
        migrations.CreateModel(
            name='Notice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=60)),
                ('text', models.TextField()),
                ('address', models.CharField(blank=True, max_length=300)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('read_at', models.DateTimeField(blank=True, null=True)),
                ('wants_mail', models.BooleanField(default=False)),
                ('mail_tries', models.PositiveSmallIntegerField(default=0)),
                ('mailed_at', models.DateTimeField(blank=True, null=True)),
                ('member', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='annotate.member')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('read_at', None)), fields=['member'], name='notice_unread'), models.Index(condition=models.Q(('mailed_at', None), ('wants_mail', True)), fields=['id'], name='notice_mail_due')],
            },
        ),
    ]
