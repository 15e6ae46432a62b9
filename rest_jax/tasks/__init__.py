"""Problems: where they come from, their splits and their prompts."""
