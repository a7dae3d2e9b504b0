"""What is true now: records, their latest values, the newest changes, and who follows them."""
