git clone -q https://github.com/acme/shop.git work
cd work
git -c user.name=a -c user.email=a@b commit -q --allow-empty -m pushed
git push -q origin HEAD:agent
git ls-remote origin agent | cut -f 2
