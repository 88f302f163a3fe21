"""Is the service up, and is its database?"""
