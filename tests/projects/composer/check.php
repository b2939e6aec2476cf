<?php
require "vendor/autoload.php";
echo "checked ", Psr\Log\LogLevel::INFO, "\n";
