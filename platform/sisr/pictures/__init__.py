"""Pictures for people: contact sheets, the slider of pages, animations."""
