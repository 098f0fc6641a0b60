"""Two scores and a topic from a ticket or survey answer; nothing of the text leaves these functions."""

from features.text.scores import TextScores, score_text, score_texts
from features.text.topics import Topic, ticket_topic

__all__ = ["TextScores", "Topic", "score_text", "score_texts", "ticket_topic"]
