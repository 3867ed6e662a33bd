"""The dashboard: a page that looks at the queue through HTTP, as any client does."""
