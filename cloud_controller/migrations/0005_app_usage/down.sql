DROP TABLE app_usage_events;
