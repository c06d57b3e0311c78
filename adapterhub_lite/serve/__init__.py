"""Adapters over HTTP: predictions, and answers as OpenAI's API gives them. FastAPI and uvicorn are needed here alone."""
