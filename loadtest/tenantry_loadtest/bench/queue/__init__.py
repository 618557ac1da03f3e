"""tenantry's tasks beside other queues on Postgres, on the same server in one run."""
