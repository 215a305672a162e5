"""Sources of text: a name or a path becomes chunks of documents, each with a place from which reading resumes."""
