import training.presets
from django.db import migrations, models


def keep_values(apps, schema_editor):
    """What trained with the engine's defaults goes on with them: no project's values change."""
    TrainingSettings = apps.get_model('training', 'TrainingSettings')
    TrainingSettings.objects.using(schema_editor.connection.alias).exclude(base_model='tiny').update(preset='defaults')


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0009_queue_order'),
    ]

    operations = [
        migrations.AddField(
            model_name='trainingsettings',
            name='preset',
            field=models.CharField(choices=training.presets.choices, default='tiny', max_length=32, verbose_name='preset'),
        ),
        migrations.AddConstraint(
            model_name='trainingsettings',
            constraint=models.CheckConstraint(condition=models.Q(('preset', ''), _negated=True), name='settings_preset_named'),
        ),
        migrations.RunPython(keep_values, migrations.RunPython.noop, elidable=True),
    ]
