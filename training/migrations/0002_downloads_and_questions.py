import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0003_notices'),
        ('training', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Question',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('asked_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='questions', to='annotate.project')),
            ],
        ),
        migrations.CreateModel(
            name='Answer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('texts', models.JSONField(blank=True, default=list)),
                ('model_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='answers', to='training.modelversion')),
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='answer', to='training.run')),
                ('question', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='answers', to='training.question')),
            ],
        ),
        migrations.CreateModel(
            name='Download',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('status', models.CharField(choices=[('waiting', 'waiting for a worker'), ('packing', 'being packed'), ('ready', 'ready'), ('failed', 'failed'), ('deleted', 'deleted')], default='waiting', max_length=7)),
                ('done', models.PositiveBigIntegerField(default=0)),
                ('total', models.PositiveBigIntegerField()),
                ('error', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('touched_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('asked_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('model_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='downloads', to='training.modelversion')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='downloads', to='annotate.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('status__in', ['waiting', 'packing', 'ready'])), fields=('model_version',), name='download_one_live_per_model'), models.CheckConstraint(condition=models.Q(('status__in', ['waiting', 'packing', 'ready', 'failed', 'deleted'])), name='download_status_known')],
            },
        ),
    ]
