from django.urls import path

from training.views import downloads, models, questions, retries, rounds, runs, step_samples, system

app_name = "training"
urlpatterns = [
    path("system/", system.show, name="system"),
    path("projects/<slug:slug>/rounds/", rounds.index, name="rounds"),
    path("projects/<slug:slug>/rounds/next/", rounds.next_round, name="rounds-next"),
    path("projects/<slug:slug>/rounds/start/", rounds.start, name="rounds-start"),
    path("projects/<slug:slug>/rounds/base-model/", rounds.make_base, name="rounds-base-model"),
    path("projects/<slug:slug>/rounds/<int:number>/", rounds.detail, name="round"),
    path("projects/<slug:slug>/rounds/<int:number>/live/", rounds.live, name="round-live"),
    path("projects/<slug:slug>/rounds/<int:number>/cancel/", rounds.cancel, name="round-cancel"),
    path("projects/<slug:slug>/runs/<int:pk>/", runs.detail, name="run"),
    path("projects/<slug:slug>/runs/<int:pk>/live/", runs.live, name="run-live"),
    path("projects/<slug:slug>/runs/<int:pk>/curves/", runs.curves_of, name="run-curves"),
    path("projects/<slug:slug>/runs/<int:pk>/metrics.csv", runs.table, name="run-csv"),
    path("projects/<slug:slug>/runs/<int:pk>/resume/", retries.resume, name="run-resume"),
    path("projects/<slug:slug>/runs/<int:pk>/repeat/", retries.repeat, name="run-repeat"),
    path("projects/<slug:slug>/runs/<int:pk>/change/", retries.change, name="run-change"),
    path("projects/<slug:slug>/runs/<int:pk>/release/", retries.release, name="run-release"),
    path("projects/<slug:slug>/runs/<int:pk>/close/", retries.close, name="run-close"),
    path("projects/<slug:slug>/runs/<int:pk>/steps/<int:step>/", step_samples.detail, name="run-step"),
    path("projects/<slug:slug>/runs/<int:pk>/steps/<int:step>/<int:place>/send/", step_samples.send, name="run-send"),
    path("projects/<slug:slug>/models/", models.index, name="models"),
    path("projects/<slug:slug>/models/compare/", models.compare, name="models-compare"),
    path("projects/<slug:slug>/models/history/", models.history, name="models-history"),
    path("projects/<slug:slug>/models/roll-back/", models.roll_back, name="models-roll-back"),
    path("projects/<slug:slug>/models/questions/", questions.index, name="questions"),
    path("projects/<slug:slug>/models/questions/<int:pk>/", questions.detail, name="question"),
    path("projects/<slug:slug>/models/questions/<int:pk>/live/", questions.live, name="question-live"),
    path("projects/<slug:slug>/models/downloads/<int:pk>/", downloads.file, name="download-file"),
    path("projects/<slug:slug>/models/<int:pk>/", models.detail, name="model"),
    path("projects/<slug:slug>/models/<int:pk>/labels/<str:kind>/", models.labels, name="model-labels"),
    path("projects/<slug:slug>/models/<int:pk>/promote/", models.promote, name="model-promote"),
    path("projects/<slug:slug>/models/<int:pk>/download/", downloads.download, name="model-download"),
]
