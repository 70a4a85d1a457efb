"""Prints the paths that visitors can ask for, one a line: what is read most comes first."""

import random

from django.core.management.base import BaseCommand
from django.core.paginator import Paginator

from magazine.management.commands.seed import WORDS
from magazine.models import LISTED, ArticlePage, SectionPage

# Of each kind of page as many as there are; one path of a kind follows those of another as here.
FRONT = ["/", "/search/?query=river", "/admin/login/"]


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args, **options):
        sections = [section.get_url() for section in SectionPage.objects.order_by("pk")]
        pages = Paginator(range(ArticlePage.objects.count() // max(len(sections), 1)), LISTED).page_range
        rest = [article.get_url() for article in ArticlePage.objects.order_by("pk")]
        rest += [f"{section}?page={page}" for section in sections for page in pages if page > 1]
        rest += [f"/search/?query={word}" for word in WORDS if word != "river"]
        random.Random(31).shuffle(rest)
        for path in [*FRONT, *sections, *rest]:
            self.stdout.write(path)
