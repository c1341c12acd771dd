"""What the API offers: a module or package for each resource."""
