"""The ways to people: mail, webhook, MQTT topics, a file. Each carries one notification to one receiver."""
