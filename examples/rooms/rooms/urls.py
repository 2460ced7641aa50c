from django.urls import path

from rooms import views

urlpatterns = [
    path("", views.RoomList.as_view(), name="rooms"),
    path("accounts/signup/", views.SignUp.as_view(), name="signup"),
    path("new/", views.NewRoom.as_view(), name="new-room"),
    path("statistics/", views.statistics, name="statistics"),
    path("files/<int:pk>/", views.download, name="download"),
    path("rooms/<slug:slug>/", views.RoomPage.as_view(), name="room"),
    path("rooms/<slug:slug>/upload/", views.upload, name="upload"),
    path("rooms/<slug:slug>/news/", views.news, name="news"),
]
