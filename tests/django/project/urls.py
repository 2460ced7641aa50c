from django.urls import path

from tests.django.project import views

urlpatterns = [
    path("", views.hello),
    path("meta/", views.meta),
    path("form/", views.form),
    path("upload/", views.upload),
    path("body/", views.body),
    path("cookies/", views.cookies),
    path("error/", views.error),
    path("send-and-fail/", views.send_and_fail),
    path("send-and-404/", views.send_and_404),
    path("reject/", views.reject),
    path("later/", views.later),
    path("again/", views.again),
    path("large/", views.large),
    path("stream/<int:count>/", views.stream),
    path("broken-stream/", views.broken_stream),
    path("file/", views.file),
    path("async/", views.async_hello),
    path("async-body/", views.async_body),
    path("async-stream/<int:count>/", views.async_stream),
    path("silent-stream/", views.silent_stream),
    path("sync-view-async-stream/", views.sync_view_async_stream),
    path("async-view-sync-stream/", views.async_view_sync_stream),
    path("async-reject/", views.async_reject),
    path("insert/", views.insert),
    path("stuck/", views.stuck),
    path("database/", views.database),
    path("async-database/", views.async_database),
]
