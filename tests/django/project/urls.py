from django.urls import path

from tests.django.project import views

urlpatterns = [
    path("", views.hello),
]
