from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AnnotateConfig(AppConfig):
    name = "annotate"
    verbose_name = _("Labelling")

    def ready(self) -> None:
        from annotate.services import audit

        audit.record_sign_ins()
