"""The guest's only way out: names are judged, addresses checked, bytes spliced, and every attempt journalled."""
