"""The shop as an ASGI application: the same pages, with the view that waits written for asyncio."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
os.environ.setdefault("SHOP_ASYNC", "1")
application = get_asgi_application()
