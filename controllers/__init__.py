"""The in-cluster process: reflectors, queues, leader election and one spine per kind. Internal to the application."""
