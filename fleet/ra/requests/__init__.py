"""From a request to an answer: who asks, what proves it, what the rules say, and the certificate."""
