"""The documentation as a static site: pages of docs/, and pages made from the code."""
