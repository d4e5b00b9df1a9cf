"""The form by which an admin of a demo project lets simulated people help."""

from __future__ import annotations

from django import forms

from annotate.models import Kind
from training.services.demo.simulations import LARGEST


class SimulationForm(forms.Form):
    """So many labels of one kind."""

    kind = forms.ChoiceField(choices=Kind.choices)
    wanted = forms.IntegerField(min_value=1, max_value=LARGEST)
