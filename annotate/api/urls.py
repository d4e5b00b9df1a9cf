"""The API's addresses, below /api/v1/."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from annotate.api import assignments, exports, labels, projects, prompts, slates

app_name = "annotate-api"
urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("projects/", projects.Projects.as_view(), name="projects"),
    path("projects/<slug:slug>/", projects.ProjectDetail.as_view(), name="project"),
    path("projects/<slug:slug>/prompts/", prompts.Prompts.as_view(), name="prompts"),
    path("projects/<slug:slug>/slates/", slates.Slates.as_view(), name="slates"),
    path("projects/<slug:slug>/export/<str:kind>/", exports.Export.as_view(), name="export"),
    path("projects/<slug:slug>/claim/", assignments.Claim.as_view(), name="claim"),
    path("assignments/<int:pk>/draft/", assignments.Draft.as_view(), name="draft"),
    path("assignments/<int:pk>/demonstration/", labels.Demonstration.as_view(), name="demonstration"),
    path("assignments/<int:pk>/ranking/", labels.Ranking.as_view(), name="ranking"),
    path("assignments/<int:pk>/skip/", assignments.Skip.as_view(), name="skip"),
]
