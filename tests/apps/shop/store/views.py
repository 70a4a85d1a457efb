"""What the shop answers: pages, JSON, a page that waits for somebody else, and one that computes."""

import asyncio
import json
import time

from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, Sum
from django.http import HttpResponseBadRequest, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, render

from store.models import Category, Order, OrderLine, Product
from store.thumbnail import average_hash, paint

PAGE = 24
LONGEST_WAIT_MS = 5000
LARGEST_PICTURE = 512


def catalogue(request):
    categories = Category.objects.annotate(size=Count("products"))
    products = Product.objects.select_related("category")
    chosen = request.GET.get("category")
    if chosen:
        products = products.filter(category=get_object_or_404(Category, slug=chosen))
    page = Paginator(products, PAGE).get_page(request.GET.get("page"))
    return render(request, "store/catalogue.html", {"categories": categories, "chosen": chosen, "page": page})


def product(request, slug):
    shown = get_object_or_404(Product.objects.select_related("category"), slug=slug)
    related = Product.objects.filter(category=shown.category).exclude(pk=shown.pk)[:6]
    sold = OrderLine.objects.filter(product=shown).aggregate(total=Sum("quantity"))["total"] or 0
    return render(request, "store/product.html", {"product": shown, "related": related, "sold": sold})


def as_dict(shown):
    return {
        "id": shown.pk,
        "name": shown.name,
        "slug": shown.slug,
        "category": shown.category.slug,
        "price_pence": shown.price_pence,
        "stock": shown.stock,
    }


def api_products(request):
    page = Paginator(Product.objects.select_related("category"), 50).get_page(request.GET.get("page"))
    return JsonResponse({"pages": page.paginator.num_pages, "products": [as_dict(each) for each in page]})


def api_product(request, pk):
    return JsonResponse(as_dict(get_object_or_404(Product.objects.select_related("category"), pk=pk)))


def api_orders(request):
    """Takes `{"email": …, "lines": [{"product": id, "quantity": n}, …]}`."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        wanted = json.loads(request.body)
        email = str(wanted["email"])
        quantities = {int(line["product"]): int(line["quantity"]) for line in wanted["lines"]}
    except (ValueError, TypeError, KeyError) as error:
        return HttpResponseBadRequest(f"not an order: {error}")
    products = Product.objects.in_bulk(quantities)
    if not quantities or len(products) < len(quantities) or min(quantities.values()) < 1:
        return HttpResponseBadRequest("not an order: an unknown product or quantity")
    with transaction.atomic():
        order = Order.objects.create(email=email)
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product=products[pk], quantity=quantity, price_pence=products[pk].price_pence)
            for pk, quantity in quantities.items()
        )
    return JsonResponse({"id": order.pk}, status=201)


def api_order(request, pk):
    order = get_object_or_404(Order, pk=pk)
    lines = list(order.lines.values("product", "quantity", "price_pence"))
    total = sum(line["quantity"] * line["price_pence"] for line in lines)
    return JsonResponse({"id": order.pk, "lines": lines, "total_pence": total})


def number(request, name, default, most):
    try:
        return min(max(int(request.GET.get(name, default)), 0), most)
    except ValueError:
        return default


def upstream(request):
    """Waits as a call to another service does: without using the CPU. gevent overlaps the waits."""
    wait = number(request, "ms", 100, LONGEST_WAIT_MS)
    time.sleep(wait / 1000)
    return JsonResponse({"waited_ms": wait})


async def upstream_async(request):
    """The same for ASGI."""
    wait = number(request, "ms", 100, LONGEST_WAIT_MS)
    await asyncio.sleep(wait / 1000)
    return JsonResponse({"waited_ms": wait})


def report(request):
    """Computes: paints a product picture of `size` × `size` pixels and fingerprints it, in Python, under the GIL."""
    size = number(request, "size", 96, LARGEST_PICTURE)
    pk = number(request, "product", 1, 1_000_000)
    shown = get_object_or_404(Product, pk=pk)
    picture = paint(shown.slug, max(size, 8))
    return JsonResponse({"product": shown.slug, "size": size, "hash": f"{average_hash(picture):016x}"})
