from config.celery import app as celery_app
from config.masking import mask_uncaught

mask_uncaught()

__all__ = ["celery_app"]
