"""Fills an empty database with the same sections and articles every time."""

import datetime
import random

from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify
from wagtail.models import Page, Site

from magazine.models import ArticlePage, HomePage, SectionPage

SECTIONS = ["Astronomy", "Baking", "Cycling", "Design", "Economics", "Forests", "Geology", "History", "Islands", "Jazz"]
ARTICLES = 40
TAGS = "advice archive beginners essay field-notes guide interview letters news opinion review science".split()
WORDS = ("morning river method paper garden engine market signal window letter bridge winter colour ocean station copper "
         "question evening harbour machine village answer mountain history island kitchen weather silver pattern journey").split()
FIRST_DAY = datetime.date(2026, 1, 1)


def sentence(chance, words):
    return " ".join(chance.choices(WORDS, k=words)).capitalize() + "."


def paragraph(chance, linked):
    """Rich text, with a link to another page in some."""
    text = " ".join(sentence(chance, 12) for _ in range(5))
    link = f' <a linktype="page" id="{linked}">{chance.choice(WORDS)}</a>' if linked and chance.random() < 0.3 else ""
    return f"<p>{text} <b>{chance.choice(WORDS)}</b>{link}</p>"


def body(chance, linked):
    parts = []
    for _ in range(chance.randint(2, 5)):
        parts.append(("heading", sentence(chance, 4)))
        parts.extend(("paragraph", paragraph(chance, linked)) for _ in range(chance.randint(1, 3)))
    parts.append(("quote", sentence(chance, 10)))
    parts.append(("facts", [{"label": chance.choice(WORDS), "value": str(chance.randint(1, 900))} for _ in range(5)]))
    return [{"type": kind, "value": value if kind != "facts" else [{"type": "item", "value": fact} for fact in value]} for kind, value in parts]


class Command(BaseCommand):
    help = __doc__

    @transaction.atomic
    def handle(self, *args, **options):
        if HomePage.objects.exists():
            self.stdout.write("already seeded")
            return
        chance = random.Random(30)
        home = Page.get_first_root_node().add_child(instance=HomePage(title="Magazine", slug="magazine", intro=paragraph(chance, None)))
        Site.objects.update_or_create(is_default_site=True, defaults={"root_page": home})
        for name in SECTIONS:
            section = SectionPage(title=name, slug=slugify(name), intro=paragraph(chance, None), show_in_menus=True)
            home.add_child(instance=section)
            self.fill(chance, section)
        self.stdout.write(f"{Page.objects.count()} pages")

    def fill(self, chance, section):
        linked = section.pk
        for number in range(ARTICLES):
            article = ArticlePage(
                title=sentence(chance, 5)[:-1],
                slug=f"{section.slug}-{number}",
                date=FIRST_DAY + datetime.timedelta(days=chance.randint(0, 300)),
                summary=sentence(chance, 20),
                body=body(chance, linked),
            )
            section.add_child(instance=article)
            article.tags.add(*chance.sample(TAGS, 3))
            article.save()
            linked = article.pk
