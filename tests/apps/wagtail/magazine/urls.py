"""Wagtail's administration, the search, and the tree of pages."""

from django.urls import include, path
from wagtail import urls as pages
from wagtail.admin import urls as administration

from magazine import views

urlpatterns = [
    path("admin/", include(administration)),
    path("search/", views.search, name="search"),
    path("", include(pages)),
]
