"""The one view that is not a page of the tree."""

from django.core.paginator import Paginator
from django.shortcuts import render

from magazine.models import ArticlePage

FOUND = 10


def search(request):
    words = request.GET.get("query", "")
    articles = ArticlePage.objects.live()
    found = articles.search(words) if words else articles.none()
    page = Paginator(found, FOUND).get_page(request.GET.get("page"))
    return render(request, "magazine/search.html", {"words": words, "page": page})
