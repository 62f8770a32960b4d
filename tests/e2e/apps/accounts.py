"""A Django project in one file, as strict about HTTPS as its ``check --deploy`` asks for; to be run
by gunicorn."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["app.example"],
    CSRF_COOKIE_SECURE=True,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only, and for nothing else at all",
    SECURE_HSTS_INCLUDE_SUBDOMAINS=True,
    SECURE_HSTS_SECONDS=31536000,
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    SECURE_REDIRECT_EXEMPT=["^up$"],
    SECURE_SSL_REDIRECT=True,
    SESSION_COOKIE_SECURE=True,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()


def up(request: HttpRequest) -> HttpResponse:
    return HttpResponse("up")


def home(request: HttpRequest) -> HttpResponse:
    """A form, and who has sent it in this session."""
    if request.method == "POST":
        request.session["name"] = request.POST["name"]
        return redirect("/")
    name = request.session.get("name", "stranger")
    lines = [f"Hello {name}", request.build_absolute_uri(), get_token(request)]
    return HttpResponse("\n".join(lines), content_type="text/plain")


urlpatterns = [path("up", up), path("", home)]
app = get_wsgi_application()
