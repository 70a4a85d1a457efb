"""The shop's pages. The same addresses under WSGI and ASGI, so that one recording fits both."""

from django.conf import settings
from django.urls import path

from store import views

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("product/<slug:slug>/", views.product, name="product"),
    path("api/products/", views.api_products),
    path("api/products/<int:pk>/", views.api_product),
    path("api/orders/", views.api_orders),
    path("api/orders/<int:pk>/", views.api_order),
    path("upstream/", views.upstream_async if settings.SHOP_ASYNC else views.upstream),
    path("report/", views.report),
]
