"""What people look at: the API and the dashboard over HTTP, filters, the audit, stored flows and the live view."""
