"""A run of the monitors in words: its status, the urgency of a finding, what was compared. Two packages write pages of it."""

VERDICTS = {0: "Nothing to do", 10: "Worth a look", 20: "Act today"}  # by exit status
URGENCY = {"act": "Act", "watch": "Watch", "info": "Info"}  # by severity
COMPARED = {
    "reference_snapshots": "Seats in use that the model was trained on, snapshots",
    "reference_sample": "… of which compared",
    "served_snapshots": "Served: the latest snapshot of each seat and day",
    "in_use": "… of seats in use, of which the model speaks",
    "current_sample": "… of which compared",
    "current_seats": "… of so many distinct seats",
    "left_out_silent": "Left out: silent for 28 days",
    "left_out_not_started": "Left out: not started yet",
    "left_out_without_features": "Left out: served without features",
    "left_out_other_catalogue": "Left out: features of another catalogue",
    "risk_of_other_model": "In use, with the risk of another model: only their features are compared",
}
