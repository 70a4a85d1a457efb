"""Fills an empty database with the same products and orders every time."""

import random

from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify

from store.models import Category, Order, OrderLine, Product

CATEGORIES = ["Bread", "Cheese", "Coffee", "Flowers", "Garden", "Kitchen", "Paper", "Tea", "Tools", "Wool"]
ADJECTIVES = ["Amber", "Brisk", "Calm", "Dapper", "Early", "Fine", "Gentle", "Hearty", "Ivory", "Jolly",
              "Keen", "Light", "Mellow", "Noble", "Open", "Plain", "Quiet", "Rustic", "Soft", "Tidy"]
THINGS = ["Box", "Bundle", "Classic", "Collection", "Companion", "Parcel", "Pick", "Set", "Special", "Standard"]
WORDS = ("made by hand from good material and packed with care for people who like simple things that last "
         "longer than a season and look better with every year of use").split()


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args, **options):
        if Product.objects.exists():
            self.stdout.write("already seeded")
            return
        chance = random.Random(20)
        with transaction.atomic():
            products = self.make_products(chance)
            self.make_orders(chance, products)
        self.stdout.write(f"{Product.objects.count()} products, {Order.objects.count()} orders")

    def make_products(self, chance):
        for name in CATEGORIES:
            category = Category.objects.create(name=name, slug=slugify(name))
            Product.objects.bulk_create(
                Product(
                    category=category,
                    name=f"{adjective} {name} {thing}",
                    slug=slugify(f"{adjective} {name} {thing}"),
                    description=" ".join(chance.choices(WORDS, k=60)),
                    price_pence=chance.randrange(150, 9000, 5),
                    stock=chance.choice([0, 3, 12, 40, 200]),
                )
                for adjective in ADJECTIVES
                for thing in chance.sample(THINGS, 3)
            )
        return list(Product.objects.order_by("pk"))

    def make_orders(self, chance, products):
        orders = Order.objects.bulk_create(Order(email=f"customer{n}@example.org") for n in range(400))
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product=each, quantity=chance.randint(1, 4), price_pence=each.price_pence)
            for order in orders
            for each in chance.sample(products, chance.randint(1, 5))
        )
