"""A home page, sections below it, articles below those."""

from django.core.paginator import Paginator
from django.db import models
from modelcluster.contrib.taggit import ClusterTaggableManager
from modelcluster.fields import ParentalKey
from taggit.models import TaggedItemBase
from wagtail import blocks
from wagtail.fields import RichTextField, StreamField
from wagtail.models import Page
from wagtail.search import index

LISTED = 12


class HomePage(Page):
    intro = RichTextField()
    subpage_types = ["magazine.SectionPage"]

    def get_context(self, request):
        latest = ArticlePage.objects.live().order_by("-date", "pk").prefetch_related("tags")[:LISTED]
        return {**super().get_context(request), "latest": latest}


class SectionPage(Page):
    intro = RichTextField()
    parent_page_types = ["magazine.HomePage"]

    def get_context(self, request):
        articles = ArticlePage.objects.child_of(self).live().order_by("-date", "pk")
        listed = Paginator(articles, LISTED).get_page(request.GET.get("page"))
        return {**super().get_context(request), "listed": listed}


class ArticleTag(TaggedItemBase):
    content_object = ParentalKey("ArticlePage", related_name="tagged_items", on_delete=models.CASCADE)


class FactBlock(blocks.StructBlock):
    label = blocks.CharBlock()
    value = blocks.CharBlock()


class ArticlePage(Page):
    date = models.DateField()
    summary = models.TextField()
    body = StreamField(
        [
            ("heading", blocks.CharBlock()),
            ("paragraph", blocks.RichTextBlock()),
            ("quote", blocks.BlockQuoteBlock()),
            ("facts", blocks.ListBlock(FactBlock())),
        ]
    )
    tags = ClusterTaggableManager(through=ArticleTag)
    parent_page_types = ["magazine.SectionPage"]
    search_fields = [*Page.search_fields, index.SearchField("summary"), index.SearchField("body")]

    def get_context(self, request):
        beside = ArticlePage.objects.sibling_of(self, inclusive=False).live().order_by("-date", "pk")[:5]
        return {**super().get_context(request), "beside": beside}
