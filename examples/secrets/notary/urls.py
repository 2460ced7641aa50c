"""No views: everything is in the routing table."""

urlpatterns = []
