"""The words of the made reports: names of places, pools of values."""

# Two words make a name. No word of a name, in any case, is a value.
FIRST_NAMES = tuple(
  """
  Harrow Ashford Bramble Falcon Winter Summer Raven Golden Thorn Hazel
  Willow Linden Heather Marsh Brook Crow Eagle Badger Hart Stag Swan Heron
  Swallow Robin Finch Lark Rook Drake Gull Jasper Opal Flint Sage Basil
  Rowan Aspen Elder Holly Ivy Fern Thistle Nettle Briar Lily Daisy Iris
  Aurora Luna Frost Dawn Dusk Morning North South East West Upper Lower
  Prince Duke Earl Baron Abbot Friar Squire Archer Mason Weaver Potter Tyler
  Chandler Sawyer Gardner Grove Glen Dale Vale Ridge Cliff Crag Peak Summit
  Valley Canyon Prairie Heath Moor Fen Pond Spring Ford Ferry Haven Port Bay
  Cove Cape Lancaster Chester Worcester Lincoln Windsor Kent Essex Sussex
  Norfolk Suffolk Devon Dorset Somerset Cornwall Durham Stafford Bedford
  Hereford Stratford Hartford Bradford Milford Rutherford Sherwood Blackwood
  Greenwood Linwood Langley Bradley Stanley Ashley Shirley Wesley Dudley
  Huntley Barkley Berkeley Hadley Finley Kingsley Beverley Hampton Preston
  Weston Easton Norton Sutton Burton Barton Carlton Walton Milton Hilton
  Ashton Clayton Dalton Denton Eaton Kingston Princeton Trenton Winston
  Wellington Darlington Burlington Arlington Huntington Livingston
  Harrington Remington Lexington Montgomery Cumberland Northumberland
  Garland Highland Oakland Kirkland Rutland Falkland Cameron Stewart Gordon
  Ross Fraser Mackenzie Sinclair Wallace Bruce Leslie Keith Lindsay Maxwell
  Monroe Barclay Warwick Alder Barrow Calder Chatham Clarendon Conway
  Crescent Dover Ember Everett Fairfax Gable Granger Griffin Hawthorne
  Holloway Hudson Juniper Kendall Lambert Laurel Lowell Marlow Mercer
  Mulberry Parish Quarry Radcliffe Ramsey Salem Shannon Sterling Tudor
  Vernon Wickham Winslow Yarrow Anchor Beacon Arrow Lance Saddle Cherry
  Maple Walnut Magnolia Lemon
  """.split()
)

SECOND_NAMES = tuple(
  """
  Mill Farm Lodge Hall Inn House Manor Villa Tower Keep Abbey Yard Hut Ranch
  Cottage Grange
  """.split()
)

# A value is a common word, nearly always one token of SmolLM2 after a space;
# each pool is so large that the best guess is right less than 3% of the time.
POOLS = {
  'animal': tuple(
    """
    fox horse lion bear wolf tiger rabbit cat dog sheep goat pig cow bull
    deer elk moose camel donkey mule elephant monkey rat mouse squirrel frog
    snake turtle lizard dragon whale dolphin shark seal salmon trout crab
    lobster spider butterfly ant beetle leopard buffalo bison beaver lamb
    calf pony zebra giraffe kangaroo hare boar ram
    """.split()
  ),
  'colour': tuple(
    """
    white black red blue green yellow brown grey orange purple pink violet
    crimson scarlet teal navy gold silver bronze ivory cream olive tan
    indigo maroon amber turquoise magenta lime beige charcoal lavender rust
    mustard coral peach plum emerald ruby cobalt pearl azure chestnut
    sapphire khaki burgundy copper
    """.split()
  ),
  'crop': tuple(
    """
    wheat barley oats rye corn rice beans peas lentils potatoes onions
    carrots cabbage beets garlic spinach tomatoes peppers pumpkins squash
    cucumbers lettuce apples pears cherries grapes hops flax hemp cotton
    tobacco clover millet sorghum soybeans strawberries asparagus celery
    kale broccoli mint thyme lavender saffron mustard peanuts bananas lemons
    oranges peaches berries raspberries blueberries herbs
    """.split()
  ),
  'town': tuple(
    """
    London Paris Boston Chicago Berlin Rome Madrid Dublin Oxford Cambridge
    Bristol Liverpool Manchester Glasgow Edinburgh Plymouth Leeds Belfast
    Cardiff Vienna Prague Warsaw Athens Venice Florence Milan Naples Geneva
    Munich Hamburg Amsterdam Brussels Lisbon Oslo Stockholm Copenhagen
    Moscow Toronto Montreal Vancouver Halifax Sydney Melbourne Brisbane
    Perth Denver Dallas Houston Austin Memphis Nashville Atlanta Miami
    Seattle Portland Detroit Cleveland Philadelphia Baltimore Pittsburgh
    Buffalo Richmond Charleston Savannah Cairo Istanbul Jerusalem Delhi
    Mumbai Tokyo Shanghai Singapore
    """.split()
  ),
  'keeper': tuple(
    """
    John Mary William Anna Thomas Sarah Robert Helen George Alice Henry Emma
    Edward Rose Charles Ruth Samuel Grace Daniel Jane Peter Lucy Martin
    Clara Arthur Martha Walter Edith Albert Ellen Frank Margaret Joseph
    Catherine Stephen Rachel Philip Laura Hugh Julia Simon Rebecca Oliver
    Susan Victor Dorothy Paul Elizabeth Adam Charlotte David Emily Jacob
    Hannah Leonard Florence Oscar Agnes Ralph Nancy Felix Barbara Nathan
    Victoria Benjamin Sophie Patrick Caroline Isaac Eleanor Andrew Maria
    Lewis Louise Max Diana
    """.split()
  ),
  'builder': tuple(
    """
    Smith Jones Taylor Brown Williams Wilson Johnson Davies Robinson Wright
    Thompson Evans Walker White Roberts Green Wood Jackson Clarke Harrison
    Ward Turner Cooper Hill Moore Clark Harris King Baker Morgan Allen Scott
    Watson Davis Parker Bennett Young Mitchell Cook Carter Richardson Bailey
    Collins Bell Shaw Murphy Miller Cox Marshall Anderson Simpson Ellis
    Adams Wilkinson Foster Powell Webb Rogers Hunt Palmer Holmes Gibson
    Fisher Barnes Knight Butler Russell Barker Stevens Jenkins Dixon
    Fletcher Hamilton Graham Crawford Sullivan Douglas Newton Franklin
    Nelson Murray Campbell Reynolds
    """.split()
  ),
  'tool': tuple(
    """
    hammer saw axe shovel ladder rope chain wheel plow drill knife lantern
    compass telescope scale barrel bucket basket hook needle pump wrench
    rake broom brush clock crane wagon sled canoe boat net spear sword
    shield bow rifle pistol kettle stove oven loom furnace mirror microscope
    thermometer cart sickle
    """.split()
  ),
  'found': tuple(
    """
    ring coin key bell spoon watch crown necklace doll mask skull bone tooth
    letter map book diary Bible helmet glove boot shoe hat belt button purse
    bottle jar cup bowl plate vase candle lamp flute violin drum trumpet
    harp guitar pipe comb fan medal statue coffin chest box cross pearl
    diamond feather shell fossil ribbon cloak umbrella pen photograph
    """.split()
  ),
  'roof': tuple(
    """
    slate tin copper lead straw glass iron steel timber cedar oak pine clay
    brick stone concrete canvas leather turf moss bamboo felt rubber plastic
    aluminum zinc brass bronze granite marble limestone sandstone wood bark
    grass wool cork wax tar sod reeds plaster silver asphalt plywood bone
    """.split()
  ),
  'carved': tuple(
    """
    hope truth courage patience mercy justice freedom wisdom peace honor
    faith charity loyalty duty victory glory silence memory harmony liberty
    unity beauty kindness gratitude humility strength virtue fortune destiny
    eternity labor reason knowledge progress prosperity joy love pride
    sorrow welcome remember forever tomorrow trust balance respect
    discipline friendship honesty innocence health pleasure
    """.split()
  ),
  'cellar': tuple(
    """
    salt sugar flour honey butter cheese wine beer oil coffee tea cocoa rice
    paper ink silk leather coal powder soap candles rope bread milk cream
    vinegar pepper cinnamon ginger vanilla chocolate jam cider whiskey rum
    gin tobacco cotton linen velvet wool ice sand gravel lime chalk paint
    tar wax timber hay seeds eggs bacon ham fish nuts raisins books medicine
    gold silver copper tin lead iron
    """.split()
  ),
  'former': tuple(
    """
    school prison hospital bakery theater museum library bank hotel factory
    warehouse laboratory garage gallery temple palace fort barracks studio
    pharmacy cinema casino clinic dairy embassy gym laundry market monastery
    nursery observatory restaurant shop station tavern mosque synagogue
    church convent courthouse lighthouse greenhouse workshop cemetery
    """.split()
  ),
  'owner': tuple(
    """
    doctor lawyer farmer teacher sailor soldier baker priest tailor
    carpenter painter poet judge merchant butcher fisherman hunter miner
    engineer chemist surgeon musician singer actor dancer writer journalist
    printer gardener shepherd blacksmith nurse clerk pilot captain colonel
    bishop monk professor scientist astronomer botanist geologist
    photographer architect sculptor philosopher historian librarian cook
    detective sheriff mathematician biologist dentist
    """.split()
  ),
  'painting': tuple(
    """
    mountain river ship castle bridge forest waterfall volcano desert island
    beach garden battle wedding funeral harvest storm sunset rainbow moon
    comet angel king queen knight giant witch ghost child mother soldier
    train balloon cathedral pyramid village harbor lake meadow orchard
    staircase throne fountain parade circus eclipse skeleton devil
    """.split()
  ),
  'country': tuple(
    """
    France Germany Spain Italy Portugal Greece Turkey Egypt Morocco Algeria
    Kenya Nigeria Ghana Ethiopia Sudan Iran Iraq Syria Israel India China
    Japan Korea Vietnam Thailand Malaysia Indonesia Philippines Australia
    Canada Mexico Cuba Jamaica Brazil Argentina Chile Peru Colombia Bolivia
    Ecuador Venezuela Panama Russia Poland Ukraine Hungary Romania Bulgaria
    Serbia Croatia Austria Switzerland Belgium Holland Denmark Norway Sweden
    Finland Iceland Ireland Scotland Wales England Nepal Tibet Pakistan
    Afghanistan
    """.split()
  ),
  'language': tuple(
    """
    English French German Spanish Italian Latin Greek Russian Dutch Polish
    Swedish Danish Norwegian Finnish Hungarian Turkish Arabic Hebrew Persian
    Hindi Chinese Japanese Korean Welsh Irish Portuguese Czech Romanian
    Bulgarian Ukrainian Croatian Serbian Thai Vietnamese Tibetan Sanskrit
    Swahili Icelandic Mongolian Bengali Tamil Armenian Yiddish Catalan
    Flemish Mandarin Malay Albanian Aramaic
    """.split()
  ),
  'dish': tuple(
    """
    soup stew pie bread cake pudding pancakes sausage ham bacon eggs cheese
    salad pasta noodles rice beans potatoes cabbage mushrooms onions chicken
    turkey duck beef pork lamb salmon trout crab lobster oysters shrimp
    curry pizza biscuits cookies jam honey apples pears cherries figs nuts
    olives yogurt toast chocolate lentils pumpkin squash spinach
    """.split()
  ),
}
