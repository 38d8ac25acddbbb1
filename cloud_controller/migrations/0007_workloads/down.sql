DROP TABLE workload_volumes;
DROP TABLE workloads;
