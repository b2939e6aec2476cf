const semver = require("semver");
console.log("checked", semver.inc("7.7.2", "minor"));
