"""The one Django application of the shop."""

from django.apps import AppConfig


class StoreConfig(AppConfig):
    name = "store"
