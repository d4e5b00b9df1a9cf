import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('annotate', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Snapshot',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('files', models.JSONField()),
                ('counts', models.JSONField()),
                ('sha256', models.CharField(max_length=64)),
                ('uses_withdrawn_labels', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('demonstrations', models.ManyToManyField(related_name='snapshots', to='annotate.demonstration')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='snapshots', to='annotate.project')),
                ('rankings', models.ManyToManyField(related_name='snapshots', to='annotate.ranking')),
            ],
        ),
        migrations.CreateModel(
            name='Round',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('status', models.CharField(choices=[('planned', 'planned'), ('running', 'running'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='planned', max_length=9)),
                ('plan', models.JSONField()),
                ('error', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('opened_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rounds', to='annotate.project')),
                ('snapshot', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rounds', to='training.snapshot')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'number'), name='round_number_once_per_project'), models.UniqueConstraint(condition=models.Q(('status__in', ['planned', 'running'])), fields=('project',), name='round_one_active_per_project'), models.CheckConstraint(condition=models.Q(('status__in', ['planned', 'running', 'succeeded', 'failed', 'cancelled'])), name='round_status_known')],
            },
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('stage', models.CharField(choices=[('pretraining', 'pretraining'), ('sft', 'SFT'), ('reward', 'reward model'), ('ppo', 'PPO'), ('evaluation', 'evaluation'), ('sampling', 'sampling')], max_length=11)),
                ('status', models.CharField(choices=[('queued', 'waiting for a worker'), ('running', 'running'), ('interrupted', 'interrupted'), ('held', 'held: a person must act'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='queued', max_length=11)),
                ('fence', models.PositiveIntegerField(default=0)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('fruitless_attempts', models.PositiveSmallIntegerField(default=0)),
                ('owner', models.CharField(blank=True, max_length=200)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('heartbeat_at', models.DateTimeField(blank=True, null=True)),
                ('rung_at', models.DateTimeField(blank=True, null=True)),
                ('step', models.PositiveIntegerField(default=0)),
                ('total', models.PositiveIntegerField(default=0)),
                ('cancel_requested', models.BooleanField(default=False)),
                ('exit_code', models.IntegerField(blank=True, null=True)),
                ('error', models.TextField(blank=True)),
                ('metrics', models.JSONField(blank=True, default=dict)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='annotate.project')),
                ('retry_of', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='retried_by', to='training.run')),
                ('round', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='training.round')),
                ('snapshot', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='training.snapshot')),
            ],
            options={
                'indexes': [models.Index(fields=['status', 'lease_until'], name='run_by_lease')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('status__in', ['queued', 'running', 'interrupted', 'held', 'succeeded'])), fields=('round', 'stage'), name='run_one_live_per_stage_of_a_round'), models.CheckConstraint(condition=models.Q(('stage__in', ['pretraining', 'sft', 'reward', 'ppo', 'evaluation', 'sampling'])), name='run_stage_known'), models.CheckConstraint(condition=models.Q(('status__in', ['queued', 'running', 'interrupted', 'held', 'succeeded', 'failed', 'cancelled'])), name='run_status_known')],
            },
        ),
        migrations.CreateModel(
            name='ModelVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('kind', models.CharField(choices=[('base', 'base model'), ('sft', 'SFT'), ('reward', 'reward model'), ('ppo', 'PPO')], max_length=6)),
                ('number', models.PositiveIntegerField()),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('external_path', models.CharField(blank=True, max_length=500)),
                ('manifest', models.JSONField(default=dict)),
                ('manifest_sha256', models.CharField(max_length=64)),
                ('config', models.JSONField(blank=True, default=dict)),
                ('metrics', models.JSONField(blank=True, default=dict)),
                ('uses_withdrawn_labels', models.BooleanField(default=False)),
                ('weights_deleted_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('parent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='children', to='training.modelversion')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='model_versions', to='annotate.project')),
                ('reference', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='anchored', to='training.modelversion')),
                ('reward', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='taught', to='training.modelversion')),
                ('run', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='model_version', to='training.run')),
                ('snapshot', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='model_versions', to='training.snapshot')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'kind', 'number'), name='model_version_number_once'), models.CheckConstraint(condition=models.Q(('kind__in', ['base', 'sft', 'reward', 'ppo'])), name='model_version_kind_known')],
            },
        ),
        migrations.CreateModel(
            name='Promotion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.TextField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('model_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='promotions', to='training.modelversion')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='promotions', to='annotate.project')),
                ('promoted_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='Sample',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('parameters', models.JSONField(default=dict)),
                ('n_tokens', models.PositiveIntegerField()),
                ('logprob', models.FloatField()),
                ('reward', models.FloatField(blank=True, null=True)),
                ('is_repaired', models.BooleanField(default=False)),
                ('completion', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='sample', to='annotate.completion')),
                ('model_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='samples', to='training.modelversion')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='samples', to='training.run')),
            ],
        ),
        migrations.CreateModel(
            name='TrainingSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('base_model', models.CharField(default='tiny', max_length=200, verbose_name='base model')),
                ('completions_per_slate', models.PositiveSmallIntegerField(default=4, validators=[django.core.validators.MinValueValidator(2), django.core.validators.MaxValueValidator(9)], verbose_name='answers per set (K)')),
                ('demonstrations_minimum', models.PositiveIntegerField(default=50, verbose_name='answers before a first round trains')),
                ('rankings_minimum', models.PositiveIntegerField(default=150, verbose_name='rankings before a round trains a reward model')),
                ('slates_per_round', models.PositiveIntegerField(default=200, verbose_name='sets of answers per round')),
                ('ppo_start', models.CharField(choices=[('sft', 'the newest SFT'), ('champion', 'the champion')], default='sft', max_length=8, verbose_name='PPO starts from')),
                ('overrides', models.JSONField(blank=True, default=dict)),
                ('seed', models.PositiveBigIntegerField(default=0)),
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='training_settings', to='annotate.project')),
            ],
            options={
                'verbose_name_plural': 'training settings',
                'constraints': [models.CheckConstraint(condition=models.Q(('completions_per_slate__range', (2, 9))), name='settings_k_from_2_to_9'), models.CheckConstraint(condition=models.Q(('ppo_start__in', ['sft', 'champion'])), name='settings_ppo_start_known')],
            },
        ),
        migrations.CreateModel(
            name='Worker',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, unique=True)),
                ('queue', models.CharField(max_length=7)),
                ('host', models.CharField(max_length=120)),
                ('device', models.CharField(blank=True, max_length=200)),
                ('pid', models.PositiveIntegerField()),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('heartbeat_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('run', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='training.run')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('queue__in', ['default', 'gpu'])), name='worker_queue_known')],
            },
        ),
    ]
