import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.CreateModel(
            name='Project',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=120, verbose_name='name')),
                ('slug', models.SlugField(max_length=60, unique=True)),
                ('guidelines', models.TextField(blank=True, verbose_name='guidelines')),
                ('demonstration_seats', models.PositiveSmallIntegerField(default=1, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(9)], verbose_name='people who answer each prompt')),
                ('ranking_seats', models.PositiveSmallIntegerField(default=1, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(9)], verbose_name='people who rank each set of answers')),
                ('heldout_share', models.FloatField(default=0.1, validators=[django.core.validators.MinValueValidator(0.0), django.core.validators.MaxValueValidator(0.5)], verbose_name='share of prompts held out')),
                ('trains_on_simulated', models.BooleanField(default=False, verbose_name='simulated labels train, too')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('demonstration_seats__range', (1, 9)), ('ranking_seats__range', (1, 9))), name='project_seats_from_1_to_9'), models.CheckConstraint(condition=models.Q(('heldout_share__range', (0.0, 0.5))), name='project_heldout_share_sane')],
            },
        ),
        migrations.CreateModel(
            name='User',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('is_superuser', models.BooleanField(default=False, help_text='Designates that this user has all permissions without explicitly assigning them.', verbose_name='superuser status')),
                ('email', models.EmailField(max_length=254, unique=True, verbose_name='e-mail address')),
                ('name', models.CharField(blank=True, max_length=120, verbose_name='name')),
                ('time_zone', models.CharField(default='UTC', max_length=64, verbose_name='time zone')),
                ('is_active', models.BooleanField(default=True)),
                ('is_staff', models.BooleanField(default=False)),
                ('date_joined', models.DateTimeField(default=django.utils.timezone.now)),
                ('groups', models.ManyToManyField(blank=True, help_text='The groups this user belongs to. A user will get all permissions granted to each of their groups.', related_name='user_set', related_query_name='user', to='auth.group', verbose_name='groups')),
                ('user_permissions', models.ManyToManyField(blank=True, help_text='Specific permissions for this user.', related_name='user_set', related_query_name='user', to='auth.permission', verbose_name='user permissions')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Member',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('annotator', 'annotator'), ('reviewer', 'reviewer'), ('admin', 'project admin')], default='annotator', max_length=9)),
                ('is_simulated', models.BooleanField(default=False, help_text='A program that plays an annotator.')),
                ('removed_at', models.DateTimeField(blank=True, null=True)),
                ('erased_at', models.DateTimeField(blank=True, help_text='The labels must not train any more.', null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='members', to='annotate.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'user'), name='member_once_per_project'), models.CheckConstraint(condition=models.Q(('role__in', ['annotator', 'reviewer', 'admin'])), name='member_role_known')],
            },
        ),
        migrations.CreateModel(
            name='Prompt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('messages', models.JSONField()),
                ('text_hash', models.CharField(max_length=64)),
                ('external_id', models.CharField(blank=True, max_length=200, null=True)),
                ('group', models.CharField(max_length=200)),
                ('split', models.CharField(choices=[('train', 'training'), ('heldout', 'held out')], max_length=7)),
                ('metadata', models.JSONField(blank=True, default=dict)),
                ('withdrawn_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('author', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='prompts', to='annotate.member')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='prompts', to='annotate.project')),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'split', 'id'], name='prompt_by_split')],
                'constraints': [models.UniqueConstraint(fields=('project', 'text_hash'), name='prompt_text_once_per_project'), models.UniqueConstraint(fields=('project', 'external_id'), name='prompt_external_id_once_per_project'), models.CheckConstraint(condition=models.Q(('split__in', ['train', 'heldout'])), name='prompt_split_known')],
            },
        ),
        migrations.CreateModel(
            name='Slate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='slates', to='annotate.project')),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='slates', to='annotate.prompt')),
            ],
        ),
        migrations.CreateModel(
            name='Completion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
                ('finish_reason', models.CharField(choices=[('stop', 'ended by itself'), ('length', 'cut at the length limit')], default='stop', max_length=6)),
                ('slate', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='completions', to='annotate.slate')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('finish_reason__in', ['stop', 'length'])), name='completion_finish_reason_known')],
            },
        ),
        migrations.CreateModel(
            name='ApiToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80, verbose_name='name')),
                ('prefix', models.CharField(max_length=12)),
                ('token_hash', models.CharField(max_length=64, unique=True)),
                ('scopes', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField()),
                ('last_used_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='api_tokens', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='AuditEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('action', models.CharField(max_length=60)),
                ('subject', models.CharField(blank=True, max_length=120)),
                ('detail', models.JSONField(blank=True, default=dict)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('actor', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='audit_events', to='annotate.project')),
            ],
            options={
                'indexes': [models.Index(fields=['project', '-created_at'], name='audit_by_time')],
            },
        ),
        migrations.CreateModel(
            name='WorkItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('demonstration', 'answer'), ('ranking', 'ranking')], max_length=13)),
                ('seats', models.PositiveSmallIntegerField()),
                ('seats_taken', models.PositiveSmallIntegerField(default=0)),
                ('submitted_count', models.PositiveSmallIntegerField(default=0)),
                ('skipped_count', models.PositiveSmallIntegerField(default=0)),
                ('status', models.CharField(choices=[('open', 'open'), ('full', 'full'), ('done', 'done'), ('escalated', 'escalated'), ('withdrawn', 'withdrawn')], default='open', max_length=9)),
                ('priority', models.IntegerField(default=0)),
                ('position', models.BigIntegerField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='work_items', to='annotate.project')),
                ('prompt', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='work_item', to='annotate.prompt')),
                ('slate', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='work_item', to='annotate.slate')),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'kind', 'status', 'priority', 'position'], name='work_item_queue')],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['demonstration', 'ranking'])), name='work_item_kind_known'), models.CheckConstraint(condition=models.Q(('status__in', ['open', 'full', 'done', 'escalated', 'withdrawn'])), name='work_item_status_known'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'demonstration'), ('prompt__isnull', False), ('slate__isnull', True)), models.Q(('kind', 'ranking'), ('prompt__isnull', True), ('slate__isnull', False)), _connector='OR'), name='work_item_has_its_subject'), models.CheckConstraint(condition=models.Q(('seats_taken__gte', 0), ('seats_taken__lte', models.F('seats'))), name='work_item_seats_taken_within_seats'), models.CheckConstraint(condition=models.Q(('submitted_count__lte', models.F('seats_taken'))), name='work_item_submitted_within_taken')],
            },
        ),
        migrations.CreateModel(
            name='Assignment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('demonstration', 'answer'), ('ranking', 'ranking')], max_length=13)),
                ('seat', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('is_extra', models.BooleanField(default=False)),
                ('status', models.CharField(choices=[('held', 'held'), ('submitted', 'submitted'), ('skipped', 'skipped'), ('released', 'released'), ('expired', 'expired')], default='held', max_length=9)),
                ('claimed_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('lease_until', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('skip_reason', models.CharField(blank=True, max_length=300)),
                ('draft', models.JSONField(blank=True, null=True)),
                ('draft_version', models.PositiveIntegerField(default=0)),
                ('draft_saved_at', models.DateTimeField(blank=True, null=True)),
                ('card_order', models.JSONField(blank=True, default=list)),
                ('annotator', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='assignments', to='annotate.member')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='annotate.project')),
                ('item', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='assignments', to='annotate.workitem')),
            ],
            options={
                'indexes': [models.Index(fields=['status', 'lease_until'], name='assignment_lease'), models.Index(fields=['annotator', 'kind', 'status', 'claimed_at'], name='assignment_history')],
                'constraints': [models.UniqueConstraint(fields=('item', 'annotator'), name='assignment_once_per_person'), models.UniqueConstraint(condition=models.Q(('status__in', ['held', 'submitted'])), fields=('item', 'seat'), name='assignment_one_per_seat'), models.UniqueConstraint(condition=models.Q(('status', 'held')), fields=('project', 'annotator', 'kind'), name='assignment_one_held_per_kind'), models.CheckConstraint(condition=models.Q(('status__in', ['held', 'submitted', 'skipped', 'released', 'expired'])), name='assignment_status_known'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'held'), _negated=True), ('seat__isnull', False), _connector='OR'), name='assignment_held_has_a_seat')],
            },
        ),
        migrations.CreateModel(
            name='Demonstration',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('submission_id', models.UUIDField()),
                ('flags', models.JSONField(blank=True, default=list)),
                ('note', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('text', models.TextField()),
                ('assignment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.assignment')),
                ('supersedes', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='superseded_by', to='annotate.demonstration')),
                ('annotator', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.member')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.project')),
                ('prompt', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='demonstrations', to='annotate.prompt')),
            ],
            options={
                'abstract': False,
                'indexes': [models.Index(fields=['project', 'created_at'], name='demonstration_by_time')],
                'constraints': [models.UniqueConstraint(fields=('annotator', 'submission_id'), name='demonstration_submission_once')],
            },
        ),
        migrations.CreateModel(
            name='QueueCursor',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('demonstration', 'answer'), ('ranking', 'ranking')], max_length=13)),
                ('priority', models.IntegerField()),
                ('position', models.BigIntegerField()),
                ('member', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='queue_cursors', to='annotate.member')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('member', 'kind'), name='queue_cursor_once_per_kind')],
            },
        ),
        migrations.CreateModel(
            name='Ranking',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('submission_id', models.UUIDField()),
                ('flags', models.JSONField(blank=True, default=list)),
                ('note', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('annotator', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.member')),
                ('assignment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.assignment')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='annotate.project')),
                ('supersedes', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='superseded_by', to='annotate.ranking')),
                ('slate', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rankings', to='annotate.slate')),
            ],
            options={
                'abstract': False,
                'indexes': [models.Index(fields=['project', 'created_at'], name='ranking_by_time')],
                'constraints': [models.UniqueConstraint(fields=('annotator', 'submission_id'), name='ranking_submission_once')],
            },
        ),
        migrations.CreateModel(
            name='Placement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('place', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('rating', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('flags', models.JSONField(blank=True, default=list)),
                ('completion', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='placements', to='annotate.completion')),
                ('ranking', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='placements', to='annotate.ranking')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('ranking', 'completion'), name='placement_once_per_completion'), models.CheckConstraint(condition=models.Q(('place__isnull', True), ('place__gte', 1), _connector='OR'), name='placement_from_1'), models.CheckConstraint(condition=models.Q(('rating__isnull', True), ('rating__range', (1, 7)), _connector='OR'), name='placement_rating_from_1_to_7')],
            },
        ),
        migrations.CreateModel(
            name='Review',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('verdict', models.CharField(choices=[('accept', 'accepted'), ('return', 'returned')], max_length=6)),
                ('comment', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('demonstration', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to='annotate.demonstration')),
                ('ranking', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to='annotate.ranking')),
                ('reviewer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reviews', to='annotate.member')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('demonstration__isnull', False), ('ranking__isnull', True)), models.Q(('demonstration__isnull', True), ('ranking__isnull', False)), _connector='OR'), name='review_of_one_label'), models.CheckConstraint(condition=models.Q(('verdict__in', ['accept', 'return'])), name='review_verdict_known'), models.CheckConstraint(condition=models.Q(models.Q(('verdict', 'return'), _negated=True), models.Q(('comment', ''), _negated=True), _connector='OR'), name='review_return_has_a_comment')],
            },
        ),
        migrations.CreateModel(
            name='SignInLink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('token_hash', models.CharField(max_length=64, unique=True)),
                ('purpose', models.CharField(choices=[('sign_in', 'sign in'), ('invitation', 'invitation'), ('password_reset', 'password reset')], max_length=14)),
                ('email', models.EmailField(max_length=254)),
                ('role', models.CharField(choices=[('annotator', 'annotator'), ('reviewer', 'reviewer'), ('admin', 'project admin')], default='annotator', max_length=9)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField()),
                ('used_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='invitations', to='annotate.project')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('purpose__in', ['sign_in', 'invitation', 'password_reset'])), name='sign_in_link_purpose_known'), models.CheckConstraint(condition=models.Q(models.Q(('purpose', 'invitation'), _negated=True), ('project__isnull', False), _connector='OR'), name='invitation_has_project')],
            },
        ),
    ]
