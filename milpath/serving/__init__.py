"""What the endpoint and the app share as servers: bounds on connections, a queue, an end."""
