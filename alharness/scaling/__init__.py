"""How selection scales: the timing study, what it shows, and the claims and gates that rest on it."""
