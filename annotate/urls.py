from django.urls import URLPattern, path

from annotate.views import (
    accounts,
    assignments,
    audit,
    exports,
    home,
    labels,
    links,
    members,
    my_work,
    notices,
    people,
    projects,
    prompts,
    reviews,
    welcome,
)

app_name = "annotate"

labelling_urls = [
    path("", home.home, name="home"),
    path("projects/<slug:slug>/rank/", assignments.rank, name="rank"),
    path("projects/<slug:slug>/write/", assignments.write, name="write"),
    path("projects/<slug:slug>/my-work/", my_work.my_work, name="my-work"),
    path("projects/<slug:slug>/guidelines/", projects.guidelines, name="guidelines"),
    path("assignments/<int:pk>/", assignments.show, name="assignment"),
    path("assignments/<int:pk>/draft/", assignments.save_draft, name="save-draft"),
    path("assignments/<int:pk>/submit/", assignments.submit, name="submit"),
    path("assignments/<int:pk>/skip/", assignments.skip, name="skip"),
    path("labels/<str:kind>/<int:pk>/correct/", labels.correct, name="correct"),
    path("labels/<str:kind>/<int:pk>/correct/draft/", labels.save_draft, name="save-correction"),
    path("labels/<str:kind>/<int:pk>/correct/leave/", labels.leave, name="leave-correction"),
    path("preview/", assignments.preview, name="preview"),
]

account_urls = [
    path("account/", accounts.account, name="account"),
    path("account/who/", accounts.who, name="who"),
    path("account/tokens/", accounts.make_token, name="make-token"),
    path("account/tokens/<int:pk>/revoke/", accounts.revoke_token, name="revoke-token"),
    path("account/tokens/check/", accounts.check_tokens, name="check-tokens"),
    path("account/password/decline/", accounts.decline_password, name="decline-password"),
    path("account/link/<str:secret>/", links.show, name="link"),
    path("welcome/", welcome.show, name="welcome"),
]

notice_urls = [
    path("notices/", notices.index, name="notices"),
    path("notices/read/", notices.read_all, name="read-notices"),
    path("notices/<int:pk>/open/", notices.open_notice, name="open-notice"),
    path("account/mail/", notices.choose_mail, name="choose-mail"),
]

people_urls = [
    path("people/", people.index, name="people"),
    path("people/audit/", audit.site, name="site-audit"),
    path("people/<int:pk>/close/", people.close, name="close-account"),
    path("people/<int:pk>/reopen/", people.reopen, name="reopen-account"),
    path("people/<int:pk>/reset-password/", people.reset_password, name="reset-password"),
    path("people/<int:pk>/tokens/revoke/", people.revoke_tokens, name="revoke-tokens"),
    path("people/<int:pk>/site-admin/", people.make_site_admin, name="make-site-admin"),
    path("people/<int:pk>/site-admin/end/", people.end_site_admin, name="end-site-admin"),
]

project_urls = [
    path("projects/", projects.index, name="projects"),
    path("projects/new/", projects.create, name="create-project"),
    path("projects/<slug:slug>/", projects.overview, name="project"),
    path("projects/<slug:slug>/settings/", projects.settings, name="settings"),
    path("projects/<slug:slug>/settings/guidelines/", projects.edit_guidelines, name="edit-guidelines"),
    path("projects/<slug:slug>/settings/audit/", audit.index, name="audit"),
    path("projects/<slug:slug>/export/", exports.index, name="export"),
    path("projects/<slug:slug>/export/<str:kind>/", exports.file, name="export-file"),
]

member_urls = [
    path("projects/<slug:slug>/members/", members.index, name="members"),
    path("projects/<slug:slug>/members/invite/", members.invite, name="invite"),
    path("projects/<slug:slug>/members/invitations/<int:pk>/revoke/", members.revoke, name="revoke-invitation"),
    path("projects/<slug:slug>/members/<int:pk>/role/", members.change_role, name="change-role"),
    path("projects/<slug:slug>/members/<int:pk>/remove/", members.remove, name="remove-member"),
]

prompt_urls = [
    path("projects/<slug:slug>/prompts/", prompts.index, name="prompts"),
    path("projects/<slug:slug>/prompts/add/", prompts.add, name="add-prompts"),
    path("projects/<slug:slug>/prompts/<int:pk>/withdraw/", prompts.withdraw, name="withdraw-prompt"),
]

review_urls = [
    path("projects/<slug:slug>/reviews/", reviews.index, name="reviews"),
    path("projects/<slug:slug>/reviews/next/", reviews.next_label, name="next-review"),
    path("projects/<slug:slug>/reviews/<str:kind>/<int:pk>/", reviews.label, name="review"),
    path("projects/<slug:slug>/reviews/<str:kind>/<int:pk>/record/", reviews.record, name="record-review"),
    path("projects/<slug:slug>/escalations/", reviews.escalations, name="escalations"),
    path("projects/<slug:slug>/escalations/<int:pk>/settle/", reviews.settle, name="settle"),
]

urlpatterns: list[URLPattern] = [
    *labelling_urls,
    *account_urls,
    *notice_urls,
    *people_urls,
    *project_urls,
    *member_urls,
    *prompt_urls,
    *review_urls,
]
