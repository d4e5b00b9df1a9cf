"""The machine's addresses, below /api/v1/."""

from django.urls import path

from training.api import base_models, models, round_plans, rounds, training_settings

app_name = "training-api"
urlpatterns = [
    path("base-models/", base_models.BaseModels.as_view(), name="base-models"),
    path("base-models/<str:folder>/examine/", base_models.Examine.as_view(), name="base-model-examine"),
    path(
        "projects/<slug:slug>/training-settings/",
        training_settings.TrainingSettingsEndpoint.as_view(),
        name="training-settings",
    ),
    path("projects/<slug:slug>/rounds/", rounds.Rounds.as_view(), name="rounds"),
    path("projects/<slug:slug>/rounds/plan/", round_plans.RoundPlan.as_view(), name="round-plan"),
    path("projects/<slug:slug>/rounds/<int:number>/", rounds.RoundDetail.as_view(), name="round"),
    path("projects/<slug:slug>/rounds/<int:number>/cancel/", rounds.RoundCancel.as_view(), name="round-cancel"),
    path("projects/<slug:slug>/models/", models.Models.as_view(), name="models"),
    path("projects/<slug:slug>/models/<int:pk>/promote/", models.Promote.as_view(), name="model-promote"),
]
