"""The commands of `ayaflow`, in the groups of its help; what a command runs is imported when it runs."""
