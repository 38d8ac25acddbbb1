DROP TABLE resources;
DROP TABLE buildpacks;
DROP TABLE droplets;
DROP TABLE builds;
DROP TABLE packages;
DROP TABLE destinations;
DROP TABLE processes;
DROP TABLE apps;
