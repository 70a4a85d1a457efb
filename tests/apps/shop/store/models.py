"""Products and the orders for them."""

from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=60)
    slug = models.SlugField(unique=True)

    class Meta:
        ordering = ["name"]


class Product(models.Model):
    category = models.ForeignKey(Category, related_name="products", on_delete=models.PROTECT)
    name = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)
    description = models.TextField()
    price_pence = models.PositiveIntegerField()
    stock = models.PositiveIntegerField()

    class Meta:
        ordering = ["name"]

    @property
    def price(self):
        return f"£{self.price_pence // 100}.{self.price_pence % 100:02}"


class Order(models.Model):
    placed = models.DateTimeField(auto_now_add=True)
    email = models.EmailField()


class OrderLine(models.Model):
    order = models.ForeignKey(Order, related_name="lines", on_delete=models.CASCADE)
    product = models.ForeignKey(Product, related_name="lines", on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    price_pence = models.PositiveIntegerField()
