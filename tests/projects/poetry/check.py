import iniconfig

print("checked", iniconfig.IniConfig("check.ini", "[versions]\nnext = 7.8.0\n")["versions"]["next"])
