from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import path

from demo import views

urlpatterns = [
    path("", views.page),
    path("bell/", views.bell),
    *staticfiles_urlpatterns(),
]
